// An agents' Worker in which nothing works: every object dies as it is made, with an error that must not get out.
class Broken {
  constructor() {
    throw new Error("broken at /secret/place.ts:1");
  }

  fetch(): Response {
    return new Response("served");
  }
}

export class Planner extends Broken {}
export class Researcher extends Broken {}
export class Catalog extends Broken {}

export default { fetch: () => new Response(null, { status: 404 }) };
