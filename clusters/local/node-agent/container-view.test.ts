import { mkdir, mkdtemp, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { containerFolders, containerMounts, makeFolders } from "./container-view.ts";

let base = "";
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "baton-view-"));
});
afterEach(() => rm(base, { recursive: true }));

describe("what a container sees", () => {
  const view = async (options: { hidden?: string[]; paths?: string[]; credentials?: string } = {}) => {
    const repository = join(base, "checkout");
    await mkdir(join(repository, ".baton", "clusters"), { recursive: true });
    const { hidden = [], paths = [], credentials } = options;
    const folders = containerFolders(join(base, "pod"), "main");
    return containerMounts({ repository, hidden, paths, credentials, folders });
  };

  it("is the checkout to read, and its own home and /tmp to write", async () => {
    const mounts = await view();
    const of = (kind: string) => mounts.filter((mount) => mount.kind === kind).map(({ path }) => path);
    expect(of("read")).toContain(join(base, "checkout"));
    expect(of("write")).toEqual([containerFolders(join(base, "pod"), "main").home, "/tmp"]);
    expect(mounts.find(({ path }) => path === "/tmp")?.from).toContain(base);
    for (const path of ["/", "/root", "/home", "/etc", "/var", "/run"])
      expect(of("read")).not.toContain(path);
  });

  it("is not the clusters, wherever among what it sees they are", async () => {
    const inside = join(base, "checkout", ".baton");
    const elsewhere = join(base, "elsewhere");
    await mkdir(inside, { recursive: true });
    await mkdir(elsewhere);
    const link = join(base, "link");
    await symlink(inside, link);
    const none = join(base, "checkout", "none");
    const mounts = await view({ hidden: [inside, link, elsewhere, none] });
    // What it does not see anyway needs no hiding; what is not there neither.
    expect(mounts.filter(({ kind }) => kind === "hide")).toEqual([{ path: inside, kind: "hide" }]);
  });

  it("has each path once, what lies in another one not by itself, and packages that are a link", async () => {
    const packages = join(base, "packages");
    await mkdir(join(base, "checkout"));
    await mkdir(packages);
    await symlink(packages, join(base, "checkout", "node_modules"));
    const tool = join(base, "tool");
    await writeFile(tool, "");
    const mounts = await view({
      paths: [tool, tool, join(base, "checkout", ".baton"), "/no/such/path"],
      credentials: join(base, "credentials"),
    });
    const paths = mounts.map(({ path }) => path).filter((path) => path.startsWith(base));
    const { home } = containerFolders(join(base, "pod"), "main");
    expect(paths.sort()).toEqual(
      [join(base, "checkout"), packages, tool, join(base, "credentials"), home].sort(),
    );
  });
});

describe("a container's folders", () => {
  it("are new at each start, and /tmp is for all", async () => {
    const folders = containerFolders(base, "main");
    const user = { uid: 65_532, gid: 65_532 };
    await makeFolders(folders, "none", user);
    await writeFile(join(folders.home, "left"), "");
    await makeFolders(folders, "none", user);
    await expect(stat(join(folders.home, "left"))).rejects.toMatchObject({ code: "ENOENT" });
    expect((await stat(folders.tmp)).mode & 0o7777).toBe(0o1777);
  });
});
