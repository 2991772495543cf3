#!/usr/bin/env node
// A worker of a skep cluster, in Node (18 or newer) alone: claim, do, end; and beats beside it.
//   SKEP_URL=http://127.0.0.1:8000 SKEP_QUEUES=mail SKEP_WORKER_TOKEN=... node worker.mjs
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const urls = (process.env.SKEP_URL ?? 'http://127.0.0.1:8080').split(',');
const queues = process.env.SKEP_QUEUES.split(',');
// A process of its own has a name of its own.
const worker = `js-${randomBytes(8).toString('hex')}`;
const headers = {
  'content-type': 'application/json',
  authorization: `Bearer ${process.env.SKEP_WORKER_TOKEN ?? ''}`,
};
const held = new Set(); // the fences of what is here
let stopping = false;
process.on('SIGTERM', () => { stopping = true; });

// The work itself: an exception is a failed try.
async function work(task) {
  return { did: task.payload };
}

// Asks any node; undefined where none has answered, or cannot now.
async function post(path, body, timeout) {
  try {
    const url = urls[Math.floor(Math.random() * urls.length)] + path;
    const signal = AbortSignal.timeout(timeout);
    const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body), signal });
    const text = await answer.text();
    if (answer.status >= 500 || [401, 429].includes(answer.status)) return undefined;
    return answer.ok && text ? JSON.parse(text) : {};
  } catch { return undefined; }
}

async function untilAnswered(path, body, timeout = 15000) {
  for (;;) {
    const answer = await post(path, body, timeout);
    if (answer) return answer;
    await sleep(500);
  }
}

setInterval(() => post(`/workers/${worker}/beat`, { holds: [...held] }, 3000), 3000).unref();
for (let number = 1; !stopping; number++) {
  const claim = { worker, number, queues, wait: '5s', holds: [...held] };
  const { tasks = [] } = await untilAnswered('/claim', claim, 20000); // the same number: the same tasks
  for (const { id, fence, ...task } of tasks) {
    held.add(fence);
    let [how, body] = ['release', {}];
    if (!stopping) {
      try { [how, body] = ['complete', { result: await work(task) }]; }
      catch (error) { [how, body] = ['fail', { error: String(error) }]; }
    }
    await untilAnswered(`/tasks/${id}/${how}`, { fence, ...body }); // 409: another has it
    held.delete(fence);
  }
}
