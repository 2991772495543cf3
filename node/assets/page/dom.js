// Small helpers. Text from outside is only ever set as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A row for each of these, in their order, with what it shows: the one that was there, or a new one. */
export function rowsOf(rows, shown, name, make) {
  const known = new Map([...rows.children].map((row) => [row.dataset[name], row]));
  const all = shown.map((each) => [known.get(each[name]) ?? make(each[name]), each]);
  const kept = new Set(all.map(([row]) => row));
  for (const row of known.values()) if (!kept.has(row)) row.remove();
  all.forEach(([row], at) => {
    if (rows.children[at] !== row) rows.insertBefore(row, rows.children[at] ?? null);
  });
  return all;
}

/** Sets what a part of a row says, where that is another. */
export function setText(row, selector, text) {
  const cell = row.querySelector(selector);
  if (cell.textContent !== String(text)) cell.textContent = text;
}

/** An answer's problem document as an error. */
export async function problemOf(answer) {
  const problem = await answer.json().catch(() => ({}));
  return new Error(problem.detail ?? problem.title ?? `status ${answer.status}`);
}

export const timeOf = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

/** What a message says, as far as it can be shown. */
export const textOf = (message) =>
  message.encoding === "base64" ? `${Math.floor((message.message.length * 3) / 4)} bytes` : message.message;
