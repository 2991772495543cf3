// The list of messages, the newest first, of bounded length.
import { byId, element, textOf, timeOf } from "./dom.js";

const SHOWN_MAX = 500;

export class Messages {
  last = 0;
  #list = byId("messages");
  #arrived = 0;

  add(message, isNew) {
    this.last = message.seq;
    const item = element("li", isNew ? "new" : "");
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
    this.#show(item);
    if (isNew) byId("count").textContent = `${++this.#arrived} since you came`;
  }

  note(text) {
    this.#show(element("li", "note", text));
  }

  #show(item) {
    // Whoever reads further down is not pushed away.
    const top = this.#list.scrollTop;
    const height = this.#list.scrollHeight;
    this.#list.prepend(item);
    while (this.#list.childElementCount > SHOWN_MAX) this.#list.lastElementChild.remove();
    if (top > 0) this.#list.scrollTop = top + this.#list.scrollHeight - height;
  }
}
