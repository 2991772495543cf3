// Rates of the queues, from counters that no restart forgets, as small graphs of the last minute.
import { element } from "./dom.js";

export const SAMPLES_MAX = 60;
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 96;
const HEIGHT = 22;

/** What leaves a queue. */
const left = (queue) => queue.done + queue.died + queue.cancelled;

export class Rates {
  #of = new Map();

  note(queues, now) {
    const names = new Set(queues.map((queue) => queue.queue));
    for (const name of this.#of.keys()) if (!names.has(name)) this.#of.delete(name);
    for (const queue of queues) {
      const seen = this.#of.get(queue.queue) ?? { in: [], out: [], last: null };
      const last = seen.last;
      seen.last = { at: now, in: queue.put, out: left(queue) };
      this.#of.set(queue.queue, seen);
      if (!last || now <= last.at) continue;
      for (const way of ["in", "out"]) {
        seen[way].push(Math.max(0, ((seen.last[way] - last[way]) * 1000) / (now - last.at)));
        if (seen[way].length > SAMPLES_MAX) seen[way].shift();
      }
    }
  }

  /** The newest rate, and a graph of those before. */
  cells(name, way) {
    const samples = this.#of.get(name)?.[way] ?? [];
    return [element("span", "rate", rateOf(samples.at(-1))), graph(samples, `${way} a second over the last minute`)];
  }
}

export const rateOf = (rate) => (rate == null ? "–" : rate < 10 ? rate.toFixed(1) : rate.toFixed(0));

/** The samples as a line, the newest at its end. */
export function graph(samples, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const most = Math.max(1, ...samples);
  const points = samples.map((rate, at) => {
    const x = WIDTH - (samples.length - 1 - at) * (WIDTH / (SAMPLES_MAX - 1));
    return `${x.toFixed(1)},${(HEIGHT - 1 - (rate / most) * (HEIGHT - 2)).toFixed(1)}`;
  });
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(line);
  return svg;
}
