// The list of messages, the newest first, of bounded length.
import { byId, element, textOf, timeOf } from "./dom.js";

const SHOWN_MAX = 500;
/** Between two changes of the list: nobody reads faster, and each lays out the page. */
const SHOW_EVERY_MS = 200;
/** Of so many at once each is highlighted: highlights that never end repaint the page without end. */
const HIGHLIGHTED_MAX = 3;

export class Messages {
  last = 0;
  #list = byId("messages");
  #arrived = 0;
  /** What makes each line that waits to be shown, the oldest first. */
  #waiting = [];
  #timer = null;

  add(message, isNew) {
    this.last = message.seq;
    if (isNew) this.#arrived++;
    this.#later((few) => line(message, isNew && few));
  }

  note(text) {
    this.#later(() => element("li", "note", text));
  }

  #later(make) {
    this.#waiting.push(make);
    // The list would not hold more.
    if (this.#waiting.length > SHOWN_MAX) this.#waiting.shift();
    this.#timer ??= setTimeout(() => this.#show());
  }

  #show() {
    if (!this.#waiting.length) {
      this.#timer = null;
      return;
    }
    const few = this.#waiting.length <= HIGHLIGHTED_MAX;
    const lines = this.#waiting.map((make) => make(few)).reverse();
    this.#waiting = [];
    // Whoever reads further down is not pushed away.
    const top = this.#list.scrollTop;
    const height = top > 0 ? this.#list.scrollHeight : 0;
    this.#list.prepend(...lines);
    while (this.#list.childElementCount > SHOWN_MAX) this.#list.lastElementChild.remove();
    if (top > 0) this.#list.scrollTop = top + this.#list.scrollHeight - height;
    if (this.#arrived) byId("count").textContent = `${this.#arrived} since you came`;
    this.#timer = setTimeout(() => this.#show(), SHOW_EVERY_MS);
  }
}

function line(message, highlighted) {
  const item = element("li", highlighted ? "new" : "");
  item.dataset.seq = message.seq;
  const meta = element("div", "meta quiet");
  meta.append(element("span", "mono", `#${message.seq}`));
  const time = element("time", "", timeOf(message.time));
  time.dateTime = message.time;
  meta.append(time);
  if (!message.content_type.startsWith("text/plain")) meta.append(element("span", "", message.content_type));
  const link = element("a", "digest", message.digest.slice(0, 16));
  link.href = `/messages/${message.digest}`;
  link.title = message.digest;
  meta.append(link);
  item.append(meta, element("p", "body", textOf(message)));
  return item;
}
