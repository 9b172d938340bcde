// A counter on workerd's durable objects, whose storage syncs before an answer leaves.
import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  async value() {
    return (await this.ctx.storage.get("value")) ?? 0;
  }

  async increment(by) {
    const value = (await this.value()) + by;
    this.ctx.storage.put("value", value);
    return value;
  }
}

export default {
  async fetch(request, env) {
    const counter = env.COUNTERS.getByName(new URL(request.url).pathname);
    const value =
      request.method === "POST" ? await counter.increment((await request.json()).by) : await counter.value();
    return Response.json({ value });
  },
};
