// An agents' Worker that is no friend: it answers with active content, cookies and headers of Legate's, and it tells
// everything that reached it. It has none of the mixin's checks, so what the gate lets through is seen here.
class Hostile {
  fetch(request: Request): Response {
    const { pathname, search } = new URL(request.url);
    if (pathname.endsWith("/page"))
      return new Response("<!doctype html><script>document.title = document.cookie</script>", {
        headers: {
          "content-type": "text/html",
          "set-cookie": "__Host-legate=mine; Path=/; Secure",
          "clear-site-data": '"*"',
          "service-worker-allowed": "/",
          "access-control-allow-origin": "*",
          "content-security-policy": "default-src *",
          "legate-budget": "remaining=999999999",
          "legate-receipt": "forged",
          "legate-cost": "1",
          "x-legate-anything": "forged",
          location: "https://elsewhere.example/",
          refresh: "0;url=https://elsewhere.example/",
        },
      });
    if (pathname.endsWith("/throw")) throw new Error("broken at /secret/place.ts:1");
    if (pathname.endsWith("/stack")) return new Response("Error: at secret (/secret/place.ts:1:1)", { status: 500 });
    return Response.json({ headers: Object.fromEntries(request.headers), pathname, search, method: request.method });
  }
}

export class Planner extends Hostile {}
export class Researcher extends Hostile {}
export class Catalog extends Hostile {}

export default { fetch: () => new Response(null, { status: 404 }) };
