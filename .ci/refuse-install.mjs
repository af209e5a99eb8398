// The repository is a source, not a package: installed as one it would be 600 MB that do not run (ADR 41). npm runs this before
// it runs anything else of a global installation; a clone that is linked (`npm install --global .`) has its lock file, and works.
import { existsSync } from "node:fs";
import { join } from "node:path";

const lock = join(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..", "package-lock.json");
if (!existsSync(lock)) {
  console.error(
    "baton: this is a packed copy of the repository, which does not run. In a clone, `npm run package` makes the package: npm install --global .baton/package/baton-*.tgz",
  );
  process.exit(1);
}
