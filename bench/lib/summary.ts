/** What a bench says of its samples; the median is the figure. */
export interface Summary {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
}

export function summarise(samples: readonly number[]): Summary {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.round(share * (sorted.length - 1)))] as number;
  return { median: at(0.5), p10: at(0.1), p90: at(0.9) };
}

/** Of a value that was counted, or measured once. */
export const once = (value: number): Summary => ({ median: value, p10: value, p90: value });
