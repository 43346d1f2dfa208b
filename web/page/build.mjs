// Builds dist/ from src/: the same bytes wherever it runs, for dist/ is committed and `make test` compares.
import * as esbuild from "esbuild";
import { cp, mkdir, rm } from "node:fs/promises";

const common = {
  outdir: "dist",
  bundle: true,
  minify: true,
  target: "es2022",
  legalComments: "none",
  charset: "utf8",
  logLevel: "warning",
};

// sql.js is fetched by app.js when its page is opened; what both need it takes from app.js, which is there already.
const shared = {
  name: "shared",
  setup(build) {
    build.onResolve({ filter: /^\.\/(chart|dom|feed|format|parts)$/ }, () => ({ path: "/page/app.js", external: true }));
  },
};

await rm("dist", { recursive: true, force: true });
await mkdir("dist");
for (const file of ["index.html", "shop.html", "icon.svg"]) await cp(`src/${file}`, `dist/${file}`);
await esbuild.build({ ...common, format: "esm", external: ["/page/*"], entryPoints: ["src/app.ts", "src/shop.ts", "src/app.css", "src/shop.css"] });
await esbuild.build({ ...common, format: "esm", entryPoints: ["src/sql.ts"], plugins: [shared] });
// A classic script in the pages of others: it leaves no names behind but its own.
await esbuild.build({ ...common, format: "iife", entryPoints: ["src/tracker.ts"] });
