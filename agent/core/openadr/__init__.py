"""OpenADR 3.1, decided: documents read, events laid on one timeline, limits planned, reports made."""
