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

/** Give a table, or a part of one, these children. What is as it was stays: it may have the focus or a click under way. */
export function settle(node, children) {
  children.forEach((child, index) => {
    const old = node.childNodes[index];
    if (old == null) node.append(child);
    else if (old.isEqualNode(child)) return;
    else if (/^(THEAD|TBODY|TR)$/.test(child.tagName)) settle(old, [...child.childNodes]);
    else old.replaceWith(child);
  });
  while (node.childNodes.length > children.length) node.lastChild.remove();
}

/**
 * Fill a table; `head` names the columns, each row is a list; what is not a cell already becomes one.
 * Each cell carries its column's name: where the page is narrow, a row stands as a list (page.css).
 * A control must carry what it acts on (`data-of`): one that looks the same as another is taken for it.
 */
export function fillTable(table, head, rows, empty) {
  const names = head.map((name) => name.textContent ?? name);
  const cells = (row) => el("tr", {}, row.map((one, column) => {
    const cell = one instanceof HTMLTableCellElement ? one : el("td", {}, one);
    cell.dataset.name = names[column];
    return cell;
  }));
  const body = rows.length ? rows.map(cells) : [el("tr", {}, el("td", { class: "dim", colspan: head.length }, empty))];
  settle(table, [
    el("thead", {}, el("tr", {}, head.map((name) => (name instanceof HTMLTableCellElement ? name : el("th", { scope: "col" }, name))))),
    el("tbody", {}, body),
  ]);
}

export const number = (text) => el("td", { class: "number" }, text);
export const right = (name) => el("th", { scope: "col", class: "number" }, name);
