// Small helpers. Text from outside is only ever set as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
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
