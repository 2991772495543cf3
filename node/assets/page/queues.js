// The page of the queues: asked for once a second while it is seen, and what an operator does by hand.
import { byId, element, problemOf, timeOf } from "./dom.js";
import { Rates } from "./rates.js";

const ASK_MS = 1000;
/** A queue whose oldest task waits for longer is marked. */
const OLD_S = 60;
/** Characters that are shown of what a task came to. */
const SHOWN_MAX = 4096;

let token = null;
let shown = null;
const rates = new Rates();

const authorized = () => (token ? { authorization: `Bearer ${token}` } : {});

/** Asks a node; a problem is an error. */
async function ask(path, options = {}) {
  const headers = { accept: "application/json", ...authorized(), ...options.headers };
  const answer = await fetch(path, { cache: "no-store", ...options, headers });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}

async function follow() {
  if (!document.hidden) {
    const connection = byId("connection");
    try {
      const { queues } = await ask("/queues");
      showQueues(queues);
      connection.dataset.state = "live";
      connection.textContent = "live";
      if (token) await showWorkers();
    } catch (error) {
      connection.dataset.state = "lost";
      connection.textContent = error.message || "no node answers";
    }
  }
  setTimeout(follow, ASK_MS);
}

const COUNTS = ["ready", "active", "due", "dead"];

function showQueues(queues) {
  rates.note(queues, performance.now());
  byId("empty").hidden = queues.length > 0;
  const sum = (name) => queues.reduce((all, queue) => all + queue[name], 0);
  byId("total").textContent = COUNTS.map((name) => `${sum(name)} ${name}`).join(", ");
  // Rows stay, so that neither the focus nor a reader loses its place.
  const rows = byId("queues");
  const known = new Map([...rows.children].map((row) => [row.dataset.queue, row]));
  for (const queue of queues) {
    const row = known.get(queue.queue) ?? newRow(queue.queue);
    known.delete(queue.queue);
    if (!row.parentNode) rows.append(row);
    showQueue(row, queue);
  }
  for (const row of known.values()) row.remove();
}

function newRow(name) {
  const row = element("tr");
  row.dataset.queue = name;
  const head = element("th");
  head.scope = "row";
  const link = element("button", "mono", name);
  link.type = "button";
  link.title = "Show its tasks";
  link.addEventListener("click", () => showTasks(name));
  head.append(token ? link : element("span", "mono", name), element("span", "paused"));
  row.append(head);
  for (const count of COUNTS) row.append(element("td", `count ${count}`));
  row.append(element("td", "oldest"), element("td", "in"), element("td", "out"));
  row.append(element("td", "count done"), element("td", "count lost"), element("td", "hand"));
  return row;
}

function setText(row, selector, text) {
  const cell = row.querySelector(selector);
  if (cell.textContent !== String(text)) cell.textContent = text;
}

function showQueue(row, queue) {
  for (const name of [...COUNTS, "done", "lost"]) setText(row, `.count.${name}`, queue[name]);
  setText(row, ".paused", queue.paused ? " paused" : "");
  const waits = queue.oldest_ready ? Math.max(0, (Date.now() - Date.parse(queue.oldest_ready)) / 1000) : null;
  setText(row, ".oldest", waits === null ? "–" : lengthOf(waits));
  row.classList.toggle("old", waits !== null && waits > OLD_S);
  for (const way of ["in", "out"]) row.querySelector(`.${way}`).replaceChildren(...rates.cells(queue.queue, way));
  const hand = row.querySelector(".hand");
  if (token && !hand.firstChild) {
    const button = element("button");
    button.type = "button";
    button.addEventListener("click", () => pause(queue.queue, button));
    hand.append(button);
    row.querySelector("th .mono").replaceWith(newRow(queue.queue).querySelector("th .mono"));
  }
  if (hand.firstChild) {
    hand.firstChild.textContent = queue.paused ? "Resume" : "Pause";
    hand.firstChild.queue = queue;
  }
}

function lengthOf(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

async function pause(name, button) {
  const { paused, length_max, active_max, ...rest } = button.queue;
  button.disabled = true;
  try {
    // What is not given is as at first: all of its settings go along.
    const settings = { paused: !paused, length_max, active_max };
    for (const more of ["per_key", "key_pause"]) if (rest[more] !== undefined) settings[more] = rest[more];
    for (const key of Object.keys(settings)) if (settings[key] === null) delete settings[key];
    await ask(`/queues/${encodeURIComponent(name)}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(settings),
    });
    byId("unlocked").textContent = `${name} is ${paused ? "resumed" : "paused"}`;
  } catch (error) {
    byId("unlocked").textContent = `not done: ${error.message}`;
  }
  button.disabled = false;
}

byId("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  try {
    await ask("/operator");
    byId("unlock").hidden = true;
    byId("unlocked").textContent = "unlocked";
    for (const id of ["workers-section", "tasks-section"]) byId(id).hidden = false;
    byId("found-by-hand").hidden = !shown;
    byId("filter").queue.focus();
  } catch (error) {
    token = null;
    byId("unlocked").textContent = error.message;
  }
});

async function showWorkers() {
  const { workers } = await ask("/workers");
  byId("workers-count").textContent = `${workers.length} known`;
  byId("workers").replaceChildren(...workers.map(workerRow));
}

function workerRow(worker) {
  const row = element("tr");
  const head = element("th", "mono", worker.worker);
  head.scope = "row";
  const runs = element("td");
  for (const task of worker.holds) {
    runs.append(linkTo(task.id), element("span", "quiet", ` ${task.queue}/${task.kind} `));
  }
  row.append(head, element("td", "mono", timeOf(worker.claimed)), runs);
  return row;
}

function linkTo(id) {
  const link = element("a", "mono", id);
  link.href = `#${id}`;
  return link;
}

async function showTasks(queue) {
  const filter = byId("filter");
  if (queue) filter.queue.value = queue;
  const name = filter.queue.value.trim();
  try {
    const wanted = new URLSearchParams({ state: filter.state.value, limit: 100 });
    const { tasks, after } = await ask(`/queues/${encodeURIComponent(name)}/tasks?${wanted}`);
    byId("tasks-of").textContent = `${name}, ${filter.state.value}`;
    byId("listed").textContent = !tasks.length ? "none" : after ? `the first ${tasks.length}` : `all ${tasks.length}`;
    byId("tasks").replaceChildren(...tasks.map(taskRow));
  } catch (error) {
    byId("listed").textContent = error.message;
  }
}

function taskRow(task) {
  const row = element("tr");
  const head = element("th");
  head.scope = "row";
  head.append(linkTo(task.id));
  row.append(head, element("td", "", task.kind), element("td", "", task.state));
  row.append(element("td", "count", task.tries), element("td", "count", task.lost));
  row.append(element("td", "mono", timeOf(task.since)), element("td", "text", task.error ?? ""));
  return row;
}

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  showTasks();
});

async function showTask(id) {
  const found = byId("found");
  byId("id").value = id;
  try {
    const task = await ask(`/tasks/${encodeURIComponent(id)}`);
    shown = id;
    const facts = element("dl");
    for (const [name, value] of Object.entries(task)) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      facts.append(element("dt", "", name), element("dd", "", text.slice(0, SHOWN_MAX)));
    }
    found.replaceChildren(facts);
  } catch (error) {
    shown = null;
    found.textContent = error.message;
  }
  byId("found-by-hand").hidden = !(token && shown);
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = byId("id").value.trim().toLowerCase();
  if (location.hash === `#${id}`) showTask(id);
  else location.hash = id;
});

const fromAddress = () => {
  const id = location.hash.slice(1);
  if (id.length === 36) showTask(id);
};
addEventListener("hashchange", fromAddress);

for (const [button, method, path, word] of [
  ["retry", "POST", "/retry", "it is tried again"],
  ["cancel", "DELETE", "", "it is cancelled"],
]) {
  byId(button).addEventListener("click", async () => {
    const said = byId("changed");
    try {
      await ask(`/tasks/${encodeURIComponent(shown)}${path}`, { method });
      said.textContent = word;
      await showTask(shown);
    } catch (error) {
      said.textContent = `not done: ${error.message}`;
    }
  });
}

follow();
fromAddress();
