// The cluster beside the messages, asked for again and again while the page is seen.
import { byId, element } from "./dom.js";

const ASK_MS = 2000;

export function showCluster() {
  ask();
}

async function ask() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/members", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
    } catch {
      byId("cluster-state").textContent = "no node answers";
    }
  }
  setTimeout(ask, ASK_MS);
}

function show({ leader, term, members }) {
  const ready = members.filter((member) => member.state === "ready").length;
  byId("term").textContent = `term ${term}`;
  byId("cluster-state").textContent = `${ready} of ${members.length} ready, ${leader ? "a leader" : "no leader"}`;
  byId("members").replaceChildren(...members.map(row));
}

function row(member) {
  const item = element("li");
  item.dataset.id = member.id;
  item.dataset.role = member.raft;
  const state = element("span", "state", member.state);
  state.dataset.state = member.state;
  const facts = element("dl");
  for (const [name, value] of [
    ["role", member.raft],
    ["lag", member.lag ?? "–"],
    ["req/s", member.requests_per_second?.toFixed(1) ?? "–"],
    ["readers", member.live_readers ?? "–"],
    ["version", member.version ?? "–"],
  ]) {
    const fact = element("div");
    fact.append(element("dt", "", name), element("dd", "", value));
    facts.append(fact);
  }
  item.append(element("span", "name mono", member.id), state, facts);
  return item;
}
