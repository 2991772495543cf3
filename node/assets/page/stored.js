// With an operator's token: the stored data, page by page, and all of it as a file.
import { byId, element, problemOf, textOf } from "./dom.js";

const PAGE_LIMIT = 100;

let token = null;
let following = null;

export function setUpStoredData() {
  byId("unlock").addEventListener("submit", unlock);
  byId("filter").addEventListener("submit", (event) => {
    event.preventDefault();
    showPage(Number(event.target.after.value) || 0);
  });
  byId("next").addEventListener("click", () => showPage(following));
  byId("export").addEventListener("click", exportAll);
}

const authorized = () => ({ authorization: `Bearer ${token}` });

async function unlock(event) {
  event.preventDefault();
  const said = byId("unlocked");
  token = byId("token").value.trim();
  try {
    const answer = await fetch("/operator", { headers: authorized(), cache: "no-store" });
    if (!answer.ok) throw await problemOf(answer);
    byId("unlock").hidden = true;
    byId("data").hidden = false;
    byId("data-title").scrollIntoView();
    byId("filter").since.focus();
    await showPage(0);
  } catch (error) {
    token = null;
    said.textContent = error.message;
  }
}

function query() {
  const form = byId("filter");
  const wanted = new URLSearchParams();
  for (const name of ["since", "until"]) {
    if (form[name].value) wanted.set(name, new Date(form[name].value).toISOString());
  }
  if (form.content_type.value) wanted.set("content_type", form.content_type.value.trim());
  return wanted;
}

async function showPage(after) {
  const wanted = query();
  const counted = await fetch(`/messages?${wanted}`, { method: "HEAD", headers: authorized(), cache: "no-store" });
  byId("data-count").textContent = counted.ok ? `${counted.headers.get("skep-count")} messages` : "";
  wanted.set("after", after);
  wanted.set("limit", PAGE_LIMIT);
  const answer = await fetch(`/messages?${wanted}`, { headers: authorized(), cache: "no-store" });
  if (!answer.ok) {
    byId("exported").textContent = (await problemOf(answer)).message;
    return;
  }
  const { messages, next } = await answer.json();
  following = next;
  byId("next").disabled = next === null;
  byId("exported").textContent = "";
  byId("rows").replaceChildren(...messages.map(row));
}

function row(message) {
  const line = element("tr");
  const digest = element("td", "digest");
  const link = element("a", "", message.digest);
  link.href = `/messages/${message.digest}`;
  digest.append(link);
  line.append(
    element("td", "mono", message.seq),
    element("td", "mono", message.time),
    element("td", "", message.content_type),
    element("td", "text", textOf(message)),
    digest,
  );
  return line;
}

async function exportAll() {
  const said = byId("exported");
  said.textContent = "exporting…";
  try {
    const answer = await fetch("/export", { headers: authorized(), cache: "no-store" });
    if (!answer.ok) throw await problemOf(answer);
    const link = element("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = "skep-messages.ndjson";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    said.textContent = "exported";
  } catch (error) {
    said.textContent = `not exported: ${error.message}`;
  }
}
