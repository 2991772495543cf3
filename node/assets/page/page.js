// Wires the page together: each module owns one part of it.
import { byId, problemOf } from "./dom.js";
import { showCluster } from "./cluster.js";
import { Feed } from "./feed.js";
import { Messages } from "./messages.js";
import { setUpStoredData } from "./stored.js";

/** Messages that are shown of what was there before. */
const SHOWN_FIRST = 50;

const messages = new Messages();

async function start() {
  const connection = byId("connection");
  const feed = new Feed({
    message: (message) => messages.add(message, true),
    state: (state, text) => {
      connection.dataset.state = state;
      connection.textContent = text;
    },
    resumed: ({ after, seconds, caughtUp }) => {
      const text = `lost for ${seconds} s, resumed after #${after}, ${caughtUp} caught up`;
      byId("resumed").textContent = text;
      messages.note(text);
    },
  });
  feed.start(await showNewest());
}

/** Shows the newest messages; answers the seq from which the feed goes on. */
async function showNewest() {
  for (let pause = 250; ; pause = Math.min(2 * pause, 4000)) {
    try {
      const counted = await fetch("/messages", { method: "HEAD", cache: "no-store" });
      if (counted.ok) {
        const last = Number(counted.headers.get("skep-last-seq"));
        const page = await fetch(`/messages?after=${Math.max(0, last - SHOWN_FIRST)}&limit=${SHOWN_FIRST}`);
        if (page.ok) {
          const { messages: newest } = await page.json();
          newest.forEach((message) => messages.add(message, false));
          return Math.max(last, messages.last);
        }
      }
    } catch {
      // No node answers: the next try follows.
    }
    await new Promise((done) => setTimeout(done, pause));
  }
}

const form = byId("send");
const text = byId("text");
const sent = byId("sent");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const message = text.value;
  if (!message) return;
  text.value = "";
  text.focus();
  sent.textContent = "sending…";
  try {
    const { seq, created } = await send(message);
    sent.textContent = created ? `stored as #${seq}` : `was there already, as #${seq}`;
  } catch (error) {
    sent.textContent = `not stored: ${error.message}`;
    // Nothing that was typed is lost.
    if (!text.value) text.value = message;
  }
});

text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

/** A message is named by its content, so sending it again does no harm. */
async function send(message) {
  const end = Date.now() + 30_000;
  for (let pause = 200; ; pause = Math.min(2 * pause, 2000)) {
    let failure;
    try {
      const answer = await fetch("/messages", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ message }),
      });
      if (answer.ok) {
        const { seq } = await answer.json();
        return { seq, created: answer.status === 201 };
      }
      failure = await problemOf(answer);
      if (answer.status < 500) throw failure;
    } catch (error) {
      if (error === failure) throw error;
      failure = error;
    }
    if (Date.now() > end) throw failure;
    sent.textContent = "still trying…";
    await new Promise((done) => setTimeout(done, pause));
  }
}

byId("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const found = byId("found");
  const digest = byId("digest").value.trim().toLowerCase();
  found.textContent = "looking…";
  try {
    const answer = await fetch(`/messages/${encodeURIComponent(digest)}`, { headers: { accept: "application/json" } });
    if (!answer.ok) {
      found.textContent = (await problemOf(answer)).message;
    } else if (answer.headers.get("content-type") === "application/json") {
      const body = document.createElement("p");
      body.className = "body";
      body.textContent = (await answer.json()).message;
      found.replaceChildren(body);
    } else {
      const bytes = (await answer.arrayBuffer()).byteLength;
      const link = document.createElement("a");
      link.href = `/messages/${digest}`;
      link.textContent = `${bytes} bytes of ${answer.headers.get("content-type")}`;
      found.replaceChildren(link);
    }
  } catch (error) {
    found.textContent = error.message;
  }
});

showCluster();
setUpStoredData();
start();
