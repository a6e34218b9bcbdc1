// Elements from plain values. Text is always text: names of jobs and sites are never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

export const el = (tag, attributes = {}, ...children) =>
  filled(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

/** Fill a table; `head` names the columns, each row is a list; what is not a cell already becomes one. */
export function fillTable(table, head, rows, empty) {
  const cells = (row) => el("tr", {}, row.map((cell) => (cell instanceof HTMLTableCellElement ? cell : el("td", {}, cell))));
  const body = rows.length ? rows.map(cells) : [el("tr", {}, el("td", { class: "dim", colspan: head.length }, empty))];
  table.replaceChildren(
    el("thead", {}, el("tr", {}, head.map((name) => (name instanceof HTMLTableCellElement ? name : el("th", { scope: "col" }, name))))),
    el("tbody", {}, body),
  );
}

export const number = (text) => el("td", { class: "number" }, text);
export const right = (name) => el("th", { scope: "col", class: "number" }, name);
