// The page of the queues: asked for once a second while it is seen, and what an operator does by hand.
import { byId, element, problemOf, rowsOf, setText, timeOf } from "./dom.js";
import { Rates } from "./rates.js";

const ASK_MS = 1000;
/** A queue whose oldest task waits for longer is marked. */
const OLD_S = 60;
/** A worker that is silent for longer, which is two beats, is marked. */
const SILENT_S = 10;
/** Tasks of a batch that are shown. */
const MEMBERS_MAX = 100;
/** Characters that are shown of what a task came to. */
const SHOWN_MAX = 4096;

let token = null;
/** The task that was asked for, and that which is shown. */
let wanted = null;
let shown = null;
const rates = new Rates();

const authorized = () => (token ? { authorization: `Bearer ${token}` } : {});

/** Asks a node; a problem is an error. */
async function ask(path, options = {}) {
  const headers = { accept: "application/json", ...authorized(), ...options.headers };
  const answer = await fetch(path, { cache: "no-store", ...options, headers });
  if (!answer.ok) throw await problemOf(answer);
  return answer.status === 204 ? null : answer.json();
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
      if (shown) await renderTask(shown);
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
  for (const [row, queue] of rowsOf(byId("queues"), queues, "queue", newRow)) showQueue(row, queue);
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

function showQueue(row, queue) {
  for (const name of [...COUNTS, "done", "lost"]) setText(row, `.count.${name}`, queue[name]);
  setText(row, ".paused", queue.paused ? " paused" : "");
  const waits = queue.oldest_ready ? ageOf(queue.oldest_ready) : null;
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
    showByHand();
    byId("filter").queue.focus();
  } catch (error) {
    token = null;
    byId("unlocked").textContent = error.message;
  }
});

async function showWorkers() {
  const { workers, after } = await ask("/workers?limit=1000");
  const heard = workers.filter((worker) => worker.beat).length;
  byId("workers-count").textContent = `${after ? "the first " : ""}${workers.length} known, ${heard} heard of`;
  for (const [row, worker] of rowsOf(byId("workers"), workers, "worker", newWorkerRow)) showWorker(row, worker);
}

function newWorkerRow(name) {
  const row = element("tr");
  row.dataset.worker = name;
  const head = element("th", "mono", name);
  head.scope = "row";
  head.append(element("span", "paused"));
  const hand = element("button");
  hand.type = "button";
  hand.addEventListener("click", () => quiet(name, hand));
  row.append(head, element("td", "version"), element("td", "count busy"), element("td", "beat"));
  const hands = element("td", "hand");
  hands.append(hand);
  row.append(element("td", "mono claimed"), element("td", "runs"), hands);
  return row;
}

function showWorker(row, worker) {
  const silent = worker.beat ? ageOf(worker.beat) : null;
  setText(row, ".version", worker.version ?? "–");
  setText(row, ".busy", worker.slots ? `${worker.holds.length} of ${worker.slots}` : worker.holds.length);
  setText(row, ".beat", silent === null ? "none heard" : `${lengthOf(silent)} ago`);
  setText(row, ".claimed", worker.claimed ? timeOf(worker.claimed) : "–");
  row.classList.toggle("silent", silent === null || silent > SILENT_S);
  setText(row, ".paused", worker.quiet ? " quiet" : "");
  const hand = row.querySelector(".hand button");
  // One that says nothing of it does not know how.
  hand.hidden = worker.quiet == null;
  hand.dataset.quiet = String(!worker.quiet);
  hand.textContent = worker.quiet ? "Go on" : "Quiet";
  const runs = row.querySelector(".runs");
  const fences = worker.holds.map((task) => task.fence).join();
  if (runs.dataset.fences !== fences) {
    runs.dataset.fences = fences;
    runs.replaceChildren(...worker.holds.map(runningTask));
  }
  for (const since of runs.querySelectorAll("[data-since]")) setText(since, ".for", lengthOf(ageOf(since.dataset.since)));
}

async function quiet(name, button) {
  const wanted = button.dataset.quiet === "true";
  button.disabled = true;
  try {
    await ask(`/workers/${encodeURIComponent(name)}/quiet`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ quiet: wanted }),
    });
    byId("unlocked").textContent = `${name} ${wanted ? "is to be quiet" : "goes on"} with its next beat`;
  } catch (error) {
    byId("unlocked").textContent = `not done: ${error.message}`;
  }
  button.disabled = false;
}

function runningTask(task) {
  const item = element("div");
  item.dataset.since = task.since;
  item.append(linkTo(task.id), element("span", "quiet", ` ${task.queue}/${task.kind} for `), element("span", "quiet for"));
  return item;
}

const ageOf = (time) => Math.max(0, (Date.now() - Date.parse(time)) / 1000);

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
  wanted = id;
  byId("id").value = id;
  byId("changed").textContent = "";
  await renderTask(id);
}

/** A task that is shown stays live; what has not changed is left alone. */
async function renderTask(id) {
  const found = byId("found");
  try {
    const task = await ask(`/tasks/${encodeURIComponent(id)}`);
    // Another one may have been asked for meanwhile.
    if (id !== wanted) return;
    const text = JSON.stringify(task);
    shown = id;
    if (found.dataset.text === text) return;
    found.dataset.text = text;
    const { tasks, ...plain } = task;
    const facts = element("dl");
    for (const [name, value] of Object.entries(plain)) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      facts.append(element("dt", "", name), element("dd", "", text.slice(0, SHOWN_MAX)));
    }
    found.replaceChildren(tasks ? membersOf(tasks) : historyOf(task), facts);
    found.dataset.of = tasks ? "batch" : "task";
  } catch (error) {
    if (id !== wanted) return;
    shown = null;
    delete found.dataset.text;
    found.textContent = error.message;
  }
  showByHand();
}

function showByHand() {
  byId("found-by-hand").hidden = !(token && shown && byId("found").dataset.of === "task");
}

/** What became of a task so far, the oldest first. */
function historyOf(task) {
  const steps = [[task.put, "put"]];
  if (task.tries) steps.push([null, `${task.tries} ${task.tries === 1 ? "try" : "tries"} failed`]);
  if (task.lost) steps.push([null, `${task.lost} ${task.lost === 1 ? "worker was" : "workers were"} lost with it`]);
  const by = task.worker ? ` at ${task.worker}` : "";
  steps.push([task.since, `${task.state}${by}`]);
  if (task.due) steps.push([task.due, "due"]);
  const list = element("ol", "history");
  for (const [time, what] of steps) {
    const step = element("li");
    step.append(element("span", "mono", time ? timeOf(time) : ""), element("span", "", ` ${what}`));
    list.append(step);
  }
  return list;
}

function membersOf(tasks) {
  const list = element("ol", "history");
  for (const task of tasks.slice(0, MEMBERS_MAX)) {
    const member = element("li");
    member.append(linkTo(task.id), element("span", "quiet", ` ${task.state}`));
    list.append(member);
  }
  if (tasks.length > MEMBERS_MAX) list.append(element("li", "quiet", `and ${tasks.length - MEMBERS_MAX} more`));
  return list;
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
      await renderTask(shown);
      said.textContent = word;
    } catch (error) {
      said.textContent = `not done: ${error.message}`;
    }
  });
}

follow();
fromAddress();
