// What the scripts say, and how. Colour only on a terminal and without NO_COLOR, so that pipes and logs stay plain.
const colour = (stream) => stream.isTTY === true && !process.env.NO_COLOR;

const style = (code) => (text) => (colour(process.stdout) ? `\u001b[${code}m${text}\u001b[0m` : String(text));

export const bold = style(1);
export const dim = style(2);
export const red = style(31);
export const green = style(32);
export const yellow = style(33);
export const cyan = style(36);

export const say = (line = "") => process.stdout.write(`${line}\n`);
export const step = (text) => say(`${dim("·")} ${text}`);
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** A reason to stop that the person at the terminal can act on. It is printed as a sentence, without a stack. */
export class Sentence extends Error {}

/** Runs a script's body; a number that it returns is the status. A Sentence is printed and ends with 1, anything else is a defect and keeps its stack. */
export async function main(body) {
  // Whoever read along has gone (`| head`): an end like any other program's, without a stack.
  process.stdout.on("error", (error) => process.exit(error.code === "EPIPE" ? 141 : 1));
  try {
    const code = await body();
    if (typeof code === "number") process.exitCode = code;
  } catch (error) {
    process.stderr.write(error instanceof Sentence ? `${red("✗")} ${error.message}\n` : `${error?.stack ?? error}\n`);
    process.exitCode = 1;
  }
}
