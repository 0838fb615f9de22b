/** How the authority of test/support/workerd/mixin/gate.ts answers. */
import type { Denial } from "../../core/denial.ts";

/** `answer`: at once; `slow`: in half a second; `silent`: after longer than anyone waits; `fail`: throws. */
export type Manner = "answer" | "slow" | "silent" | "fail";

export interface Script {
  readonly register?: Manner;
  readonly admit?: Manner;
  /** The first try of each charge. */
  readonly charge?: Manner;
  /** Another agent, asked by a probe. */
  readonly fetch?: Manner;
  readonly denial?: Denial;
  readonly expires?: number;
}
