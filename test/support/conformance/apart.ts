// The edge and the agents' Worker as two processes of plain workerd, so that one can die while the other lives. A
// namespace of objects can't lie in another process: so there is a front in the edge's, which has the agents' classes and
// hands on whatever they are asked, and a door in the agents', which asks the object of that name. Both Workers are real.
import {
  AGENT_CLASSES,
  AUTHORITY,
  freePort,
  listens,
  quoted,
  workerOf,
  type Plain,
  type PlainServer,
} from "./plain.ts";

/** A name that both sides know: what connects to it speaks the runtime's own RPC. */
const RPC = `capnpConnectHost = "rpc.invalid"`;
const ORDERS = ["legateClose", "legateTell", "legateOpen"];

const FRONT = `import { DurableObject } from "cloudflare:workers";
const front = (binding) => class extends DurableObject {
  get place() { return JSON.stringify({ binding, name: this.ctx.id.name }); }
  fetch(request) {
    const headers = new Headers(request.headers);
    headers.set("x-place", this.place);
    return this.env.FAR.fetch(new Request(request, { headers }));
  }
  ${ORDERS.map((name) => `${name}(order) { return this.env.FAR.${name}(this.place, order); }`).join("\n  ")}
};
${AGENT_CLASSES.map((name) => `export const ${name} = front(${quoted(name.toUpperCase())});`).join("\n")}
export default { fetch: () => new Response(null, { status: 404 }) };\n`;

const DOOR = `import { WorkerEntrypoint } from "cloudflare:workers";
export default class extends WorkerEntrypoint {
  object(place) {
    const { binding, name } = JSON.parse(place);
    return this.env[binding].getByName(name);
  }
  fetch(request) {
    const headers = new Headers(request.headers);
    headers.delete("x-place");
    return this.object(request.headers.get("x-place")).fetch(new Request(request, { headers }));
  }
  ${ORDERS.map((name) => `${name}(place, order) { return this.object(place).${name}(order); }`).join("\n  ")}
}\n`;

const far = (name: string, port: number) => `(name = ${quoted(name)}, external = (${listens(port, RPC)}))`;

interface Ports {
  readonly http: number;
  readonly authority: number;
  readonly door: number;
}

/** Starts either, on its own, again and again on the same ports. */
export class Apart {
  readonly #plain: Plain;
  readonly #ports: Ports;

  private constructor(plain: Plain, ports: Ports) {
    this.#plain = plain;
    this.#ports = ports;
  }

  static async of(plain: Plain): Promise<Apart> {
    return new Apart(plain, { http: await freePort(), authority: await freePort(), door: await freePort() });
  }

  startEdge(): Promise<PlainServer> {
    const { http, authority, door } = this.#ports;
    const folder = this.#plain.module("front", FRONT);
    const front = workerOf({
      name: "front",
      folder,
      classes: AGENT_CLASSES,
      bindings: [`(name = "FAR", service = "far")`],
    });
    const sockets = [
      `(name = "http", ${listens(http)}, service = "legate")`,
      `(name = "authority", ${listens(authority, RPC)}, service = ${AUTHORITY})`,
    ];
    return this.#plain.serve("edge", [this.#plain.edge("front"), front, far("far", door)], sockets, http);
  }

  startAgents(): Promise<PlainServer> {
    const { authority, door } = this.#ports;
    const folder = this.#plain.module("door", DOOR);
    const bindings = AGENT_CLASSES.map(
      (name) =>
        `(name = ${quoted(name.toUpperCase())}, durableObjectNamespace = (className = ${quoted(name)}, serviceName = "legate-agents"))`,
    );
    const services = [
      this.#plain.agents(`"legate"`),
      workerOf({ name: "door", folder, classes: [], bindings }),
      far("legate", authority),
    ];
    return this.#plain.serve("agents", services, [`(name = "door", ${listens(door, RPC)}, service = "door")`], door);
  }
}
