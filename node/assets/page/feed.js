// The live feed: a WebSocket that is opened again, wherever the balancer leads, after the last
// message that was seen.

/** Silence after which a connection counts as dead; nodes ping, but a page does not see pings. */
const ALIVE_CHECK_MS = 20_000;
const PAUSE_MIN_MS = 150;
const PAUSE_MAX_MS = 4000;

export class Feed {
  #after = 0;
  #on;
  #lost = null;
  #pause = PAUSE_MIN_MS;
  #socket = null;
  #retry = 0;

  constructor(on) {
    this.#on = on;
    // A laptop that wakes, a phone that finds its network again.
    addEventListener("online", () => this.#now());
    document.addEventListener("visibilitychange", () => document.hidden || this.#now());
    setInterval(() => this.#check(), ALIVE_CHECK_MS);
  }

  start(after) {
    this.#after = after;
    this.#open();
  }

  #open() {
    clearTimeout(this.#retry);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/messages/live?after=${this.#after}`);
    this.#socket = socket;
    socket.onopen = () => {
      this.#pause = PAUSE_MIN_MS;
      this.#on.state("live", "live");
      if (this.#lost) this.#resumed(this.#lost);
    };
    socket.onmessage = (event) => {
      if (socket !== this.#socket) return;
      const message = JSON.parse(event.data);
      // What was seen is not shown again, whatever a server may do.
      if (message.seq <= this.#after) return;
      this.#after = message.seq;
      this.#on.message(message);
    };
    socket.onclose = () => {
      if (socket === this.#socket) this.#again();
    };
  }

  #again() {
    this.#socket = null;
    this.#lost ??= { at: Date.now(), after: this.#after };
    this.#on.state("lost", "reconnecting");
    const pause = this.#pause * (0.5 + Math.random());
    this.#pause = Math.min(2 * this.#pause, PAUSE_MAX_MS);
    this.#retry = setTimeout(() => this.#open(), pause);
  }

  /** Says what the loss came to, once what was missed has had a moment to come. */
  #resumed(lost) {
    this.#lost = null;
    const seconds = ((Date.now() - lost.at) / 1000).toFixed(1);
    setTimeout(() => {
      this.#on.resumed({ after: lost.after, seconds, caughtUp: this.#after - lost.after });
    }, 300);
  }

  #now() {
    if (!this.#socket && this.#lost) this.#open();
  }

  /** A connection may be dead without a word: the node's last seq tells whether it is behind. */
  async #check() {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN || document.hidden) return;
    const before = this.#after;
    try {
      const counted = await fetch("/messages", { method: "HEAD", cache: "no-store" });
      const last = Number(counted.headers.get("skep-last-seq"));
      if (!counted.ok || last <= before) return;
    } catch {
      return;
    }
    setTimeout(() => {
      if (socket === this.#socket && this.#after === before) {
        socket.close();
        this.#again();
      }
    }, 3000);
  }
}
