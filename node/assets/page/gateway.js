// The page of the gateway: asked for once a second while it is seen, once an operator has said the token.
import { byId, element, problemOf, rowsOf, setText } from "./dom.js";
import { SAMPLES_MAX, graph, rateOf } from "./rates.js";

const ASK_MS = 1000;

/** What each word of a balancer's stand means. */
const STANDS = {
  follows: "follows",
  late: "is late",
  refuses: "cannot read it",
  silent: "is silent",
  apart: "says nothing of it",
};

let token = null;
const samples = [];
const rates = new Map();

async function ask() {
  const headers = { accept: "application/json", authorization: `Bearer ${token}` };
  const answer = await fetch("/gateway/seen", { cache: "no-store", headers });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}

async function follow() {
  if (token && !document.hidden) {
    const connection = byId("connection");
    try {
      show(await ask());
      connection.dataset.state = "live";
      connection.textContent = "live";
    } catch (error) {
      connection.dataset.state = "lost";
      connection.textContent = error.message || "no node answers";
    }
  }
  setTimeout(follow, ASK_MS);
}

byId("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  try {
    show(await ask());
    byId("operator").hidden = true;
    byId("whole").hidden = false;
    for (const section of document.querySelectorAll(".shown")) section.hidden = false;
    document.querySelector(".scroll").focus();
  } catch (error) {
    token = null;
    byId("unlocked").textContent = error.message;
  }
});

/** Words with numbers, the largest first. */
function words(list, counts, classOf) {
  const pairs = Object.entries(counts).sort(([, a], [, b]) => b - a);
  const text = JSON.stringify(pairs);
  if (list.dataset.text === text) return;
  list.dataset.text = text;
  list.replaceChildren(...pairs.map(([word, count]) => element("li", classOf(word), `${word} ${count}`)));
}

const ofClass = (word) => (word === "5xx" || word === "none" ? "bad" : "");
const ofReason = () => "warn";

function note(name, rate) {
  const seen = rates.get(name) ?? [];
  if (rate != null) seen.push(rate);
  if (seen.length > SAMPLES_MAX) seen.shift();
  rates.set(name, seen);
  return seen;
}

function countOf(list, of, word) {
  return list.length === of ? `${of}` : `${list.length} of ${of}${word}`;
}

function show(seen) {
  const since = seen.time ? `, since ${new Date(seen.time).toLocaleString()}, from ${seen.source}` : "";
  byId("revision").textContent = seen.revision
    ? `revision ${seen.revision}${since}, lineage ${seen.lineage}`
    : "nothing is configured: all requests go to the nodes";
  if (seen.requests_per_s != null) samples.push(seen.requests_per_s);
  if (samples.length > SAMPLES_MAX) samples.shift();
  byId("rate").textContent = rateOf(seen.requests_per_s);
  byId("graph").replaceChildren(graph(samples, "requests a second over the last minute"));
  words(byId("answers"), seen.answers, ofClass);
  words(byId("refused"), seen.refused, ofReason);
  byId("unmatched").textContent =
    seen.unmatched === "skep" ? "What no route has goes to the nodes." : "What no route has is not found.";
  showBalancers(seen.balancers);
  showRoutes(seen);
  byId("services-count").textContent = countOf(seen.services, seen.of.services, "");
  for (const [row, service] of rowsOf(byId("services"), seen.services, "name", serviceRow)) showService(row, service);
  byId("consumers-count").textContent = countOf(seen.consumers, seen.of.consumers, "");
  for (const [row, consumer] of rowsOf(byId("consumers"), seen.consumers, "name", consumerRow)) {
    setText(row, ".groups", consumer.groups.join(", ") || "–");
    setText(row, ".keys", consumer.keys);
    setText(row, ".passwords", consumer.passwords);
  }
  const issuers = seen.issuers.map(({ name, keys }) => `${name} (${keysOf(keys)})`);
  byId("issuers").textContent = issuers.length ? `Tokens are taken of ${issuers.join(", ")}.` : "";
  byId("certificates-count").textContent = `${seen.certificates.length}`;
  for (const [row, certificate] of rowsOf(byId("certificates"), seen.certificates, "name", certificateRow)) {
    setText(row, ".hosts", certificate.hosts.join(", "));
    const ends = new Date(certificate.not_after);
    setText(row, ".ends", `${ends.toLocaleString()}${ends < new Date() ? ", it is over" : ""}`);
    row.classList.toggle("down", ends < new Date());
  }
}

/** A row with these cells behind its name, each a class or several. */
function rowWith(name, ...cells) {
  const row = element("tr");
  row.dataset.name = name;
  const head = element("th", "mono", name);
  head.scope = "row";
  row.append(head, ...cells.map((cell) => element("td", cell)));
  return row;
}

function showBalancers(balancers) {
  const follow = balancers.filter((balancer) => balancer.stand === "follows").length;
  byId("balancers-count").textContent = `${follow} of ${balancers.length} follow`;
  const named = balancers.map((balancer) => ({ ...balancer, name: balancer.id }));
  for (const [row, balancer] of rowsOf(byId("balancers"), named, "name", balancerRow)) {
    row.dataset.stand = balancer.stand;
    setText(row, "th", balancer.http ?? balancer.id);
    setText(row, ".version", balancer.version);
    setText(row, ".revision", balancer.revision ?? "–");
    const refused = balancer.refuses == null ? "" : ` (revision ${balancer.refuses})`;
    const state = balancer.state === "ready" || balancer.state === "dead" ? "" : `, ${balancer.state}`;
    setText(row, ".stand", `${STANDS[balancer.stand] ?? balancer.stand}${refused}${state}`);
    setText(row, ".done", rateOf(balancer.requests_per_s));
  }
}

const balancerRow = (id) => {
  const row = rowWith(id, "version", "count revision", "stand", "count done");
  row.firstChild.title = id;
  return row;
};

function showRoutes(seen) {
  byId("routes-count").textContent = countOf(seen.routes, seen.of.routes, ", the busiest");
  const names = new Set(seen.routes.map((route) => route.name));
  for (const name of rates.keys()) if (!names.has(name)) rates.delete(name);
  for (const [row, route] of rowsOf(byId("routes"), seen.routes, "name", routeRow)) {
    setText(row, ".for", requestsOf(route));
    setText(row, ".to", `${targetOf(route)}${shiftOf(seen.shifts.find((shift) => shift.route === route.name))}`);
    words(row.querySelector(".answers"), route.answers, ofClass);
    words(row.querySelector(".refused"), route.refused, ofReason);
    const policies = row.querySelector(".policies");
    const text = route.policies.join("\n");
    if (policies.dataset.text !== text) {
      policies.dataset.text = text;
      policies.replaceChildren(...route.policies.map((policy) => element("li", policy === "maintenance" ? "warn" : "", policy)));
    }
    setText(row, ".rate", rateOf(route.requests_per_s));
    row.querySelector(".graph").replaceChildren(graph(note(route.name, route.requests_per_s), "over the last minute"));
  }
  const { others } = seen;
  const more = Object.values(others.answers).reduce((sum, count) => sum + count, 0);
  byId("others").textContent =
    others.routes || more ? `Others, not shown one by one: ${rateOf(others.requests_per_s)} requests / s, ${more} answers.` : "";
}

function routeRow(name) {
  const row = rowWith(name, "mono for", "to", "", "busy", "", "");
  const [, , , policies, rate, answers, refused] = row.children;
  rate.append(element("span", "rate"), " ", element("span", "graph"));
  for (const [cell, what] of [[policies, "policies"], [answers, "answers"], [refused, "refused"]]) {
    cell.append(element("ul", `words ${what}`));
  }
  return row;
}

function requestsOf(route) {
  const methods = route.methods.length ? `${route.methods.join(", ")} ` : "";
  const fields = route.headers ? ` with ${route.headers} ${route.headers === 1 ? "field" : "fields"}` : "";
  const path = route.path.startsWith("=") ? route.path.slice(1) : `${route.path}…`;
  const hosts = route.hosts.length ? ` at ${route.hosts.join(", ")}` : "";
  return `${methods}${path}${hosts}${fields}`;
}

function targetOf(route) {
  if (route.redirect) return route.redirect;
  const services = Object.entries(route.services);
  return services.map(([name, weight]) => (services.length > 1 ? `${name} (${weight})` : name)).join(", ");
}

/** What is to be seen of a route's shift. */
function shiftOf(shift) {
  if (!shift || shift.state === "done" || shift.state === "superseded") return "";
  const { from, to, state, share_percent: share, seen, why } = shift;
  if (state === "back") return `; the shift from ${from} to ${to} went back: ${why}`;
  const failed = seen.failed ? `, ${seen.failed} of ${seen.requests} failed of late` : "";
  return `; shift ${state}: ${share} % of ${from} goes to ${to}${failed}`;
}

const serviceRow = (name) => rowWith(name, "mono urls", "count able");
const certificateRow = (name) => rowWith(name, "mono hosts", "ends");
const consumerRow = (name) => rowWith(name, "groups", "count keys", "count passwords");

function keysOf(keys) {
  if (keys == null) return "keys that it publishes";
  return keys === 1 ? "1 key" : `${keys} keys`;
}

function showService(row, service) {
  setText(row, ".urls", service.name === "skep" ? "the nodes" : service.urls.join(", "));
  setText(row, ".able", service.servers == null ? "–" : `${service.available} of ${service.servers}`);
  row.classList.toggle("down", service.servers != null && service.available < service.servers);
}

follow();
