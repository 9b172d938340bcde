import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

// The build is kept in the repository, beside the gateway's code that serves it. File names carry a hash of their
// content, so browsers may keep them for ever.
export default defineConfig({
  base: "/console/",
  plugins: [preact()],
  build: {
    outDir: "../../services/http_gateway/console",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    license: { fileName: "LICENSES.md" },
  },
});
