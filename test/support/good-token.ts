// Good tokens of every kind, drawn from a seed.
import { childOf, makeSegment, type EpochSeconds, type Micros, type NodePath } from "../../core/ids.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import { ALICE, claimsOf, KEYS, NOW, PLANNER, SEARCHER, SESSION } from "./deployment.ts";
import { base64url, seededRandom } from "./forge.ts";

/** Draws for one mutation; the same seed, class and number draw the same. */
export function dice(name: string) {
  const random = seededRandom(name);
  const below = (limit: number): number => new DataView(random(4).buffer).getUint32(0) % limit;
  return { random, below, pick: <T>(list: readonly T[]): T => list[below(list.length)] as T };
}
export type Dice = ReturnType<typeof dice>;

/** A good token: plain or narrowed, of a person, an agent or a chain. */
export async function goodToken({ random, below, pick }: Dice, blocksMin = 0): Promise<string> {
  const gid = below(2) === 0 ? SESSION : childOf(SESSION as string as NodePath, makeSegment(random));
  const who = pick([
    { client_id: ALICE, act: undefined },
    {},
    { client_id: SEARCHER, act: { sub: SEARCHER, act: { sub: PLANNER } } },
  ]);
  let token = await KEYS.session.mint(
    claimsOf({
      ...who,
      gid,
      jti: base64url(random(16)),
      ...pick([{}, { tier: "pro" }, { agents: ["planner", "catalog"] }]),
    }),
  );
  const blocks = blocksMin + below(4);
  for (let i = 0; i < blocks; i++) {
    const narrowing: Narrowing = pick<Narrowing>([
      {},
      { scope: "read" },
      { agents: ["catalog"] },
      { exp: (NOW + 60) as EpochSeconds },
      { budget: 5 as Micros },
      { act: "helper" },
    ]);
    token = await narrowToken(token, narrowing, random);
  }
  return token;
}
