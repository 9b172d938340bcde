/** The place of an object in the fleet, by the rule that NATS and all hosts follow. */

import type { Schemas } from "./api";

type Host = Pick<Schemas["HostInfo"], "service" | "replica" | "partitions">;

export interface Place {
  partition: number;
  /** Undefined while no host owns the partition. */
  host: string | undefined;
}

/** Return the partition and the host of an object. The last partition that any host owns tells how many there are. */
export function placeOf(type: string, id: string, hosts: Host[]): Place | undefined {
  const owned = hosts.flatMap((host) => Object.values(host.partitions).flat());
  if (!owned.length) return undefined;
  const partition = hash(type + id) % (Math.max(...owned) + 1);
  const host = hosts.find((each) => each.partitions[type]?.includes(partition));
  return { partition, host: host && `${host.service}-${host.replica}` };
}

/** FNV-1a with 32 bits. */
function hash(text: string): number {
  return new TextEncoder().encode(text).reduce((digest, byte) => Math.imul(digest ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
}
