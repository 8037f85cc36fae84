import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, "..", "serving", "door", "page");
const built = join(page, "static");
const SOURCES = ["index.html", "package-lock.json", "package.json", "public", "src", "tsconfig.json", "vite.config.ts"];

/** Writes down what was built from what: tests/contract/test_page_copy.py compares it with the files. */
function record(): Plugin {
  return {
    name: "record",
    apply: "build",
    closeBundle() {
      const sources = SOURCES.flatMap((name) => files(join(here, name)));
      const told = { sources: digest(here, sources), built: digest(built, files(built)) };
      writeFileSync(join(page, "built_from.json"), `${JSON.stringify(told, null, 2)}\n`);
    },
  };
}

/** The document without indents, quotes and slashes that HTML does not need, and short names of colours in CSS. */
function short(): Plugin {
  return {
    name: "short",
    apply: "build",
    generateBundle(_, bundle) {
      for (const file of Object.values(bundle)) {
        if (file.type !== "asset" || !file.fileName.endsWith(".css")) continue;
        const names = [...new Set(String(file.source).match(/--[\w-]+/g))].sort();
        file.source = String(file.source).replace(/--[\w-]+/g, (name) => `--${names.indexOf(name).toString(36)}`);
      }
    },
    transformIndexHtml: {
      order: "post",
      handler: (html) =>
        html
          .replace(/\s*\n\s*/g, "")
          .replace(/ ?\/>/g, ">")
          .replace(/ crossorigin/g, "")
          .replace(/="([\w./#-]*[\w#-])"/g, "=$1"),
    },
  };
}

function files(path: string): string[] {
  try {
    return readdirSync(path).flatMap((name) => files(join(path, name)));
  } catch {
    return [path];
  }
}

/** SHA-256 over names and contents, in the order of the names. */
function digest(root: string, paths: string[]): string {
  const hash = createHash("sha256");
  const named = paths.map((path) => [relative(root, path).replaceAll("\\", "/"), path] as const);
  for (const [name, path] of named.sort(([one], [other]) => (one < other ? -1 : 1))) {
    hash.update(`${name}\0`).update(createHash("sha256").update(readFileSync(path)).digest("hex")).update("\n");
  }
  return hash.digest("hex");
}

export default defineConfig({
  root: here,
  plugins: [short(), record()],
  build: {
    outDir: built,
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    target: "es2022",
    cssTarget: "chrome123", // the first with light-dark(), as Firefox 120 and Safari 17.5
    rollupOptions: {
      input: { page: join(here, "index.html"), worklets: join(here, "src", "sound", "worklets.ts") },
      output: {
        // No hashes in the names: the server sends an ETag, and a rebuilt copy is a small change.
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
  test: { include: ["tests/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
