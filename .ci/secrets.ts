import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

// Finds what must not be in a repository: keys, tokens, passwords in addresses, and names of package registries.
// Looks at the staged files, or with --all at every tracked one.

const root = join(import.meta.dirname, "..");

const PATTERNS: readonly (readonly [what: string, pattern: RegExp])[] = [
  ["a private key", /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*\n[A-Za-z0-9+/=]{20}/],
  ["an AWS access key", /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/],
  ["a GitHub token", /\bgh[pousr]_[A-Za-z0-9]{36,}\b/],
  ["a Slack token or webhook", /\bxox[abprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com\/services\/T[A-Z0-9]{6,}/],
  ["a password in an address", /[a-z]+:\/\/[^\s:/@"'`$<>{}[\]]+:[^\s:/@"'`$<>{}[\]]{6,}@[a-z0-9]/i],
  ["a JSON web token", /\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{10,}/],
  ["a package registry in a lock file", /"resolved": "https?:/],
];

const git = (...args: string[]) =>
  execFileSync("git", args, { cwd: root, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 });
const all = process.argv.includes("--all");
const files = all ? git("ls-files") : git("diff", "--cached", "--name-only", "--diff-filter=ACMR");

let found = 0;
for (const file of files.split("\n").filter((name) => name !== "")) {
  const text = all ? readFileSync(join(root, file), "utf8") : git("show", `:${file}`);
  for (const [what, pattern] of PATTERNS) {
    const match = pattern.exec(text);
    if (match === null) continue;
    found += 1;
    const line = text.slice(0, match.index).split("\n").length;
    console.error(`${file}:${line}: looks like ${what}`);
  }
}
if (found > 0) {
  console.error("Take it out before you commit; a secret that was pushed has to be replaced.");
  process.exitCode = 1;
}
