import { cpSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

const require = createRequire(import.meta.url);
const packageFolder = (name: string) => path.dirname(require.resolve(`${name}/package.json`));

/** Icons and fonts that Grafana's libraries load by address, from where its server would have them. */
function publicFiles(): Plugin {
  return {
    name: 'public-files',
    closeBundle() {
      const icons = path.join(import.meta.dirname, 'node_modules/@grafana/ui/dist/public/img/icons');
      const to = path.join(import.meta.dirname, 'dist/public');
      for (const folder of ['build/img/icons', 'img/icons']) cpSync(icons, path.join(to, folder), { recursive: true });
      const fonts = path.join(packageFolder('@fontsource/inter'), 'files');
      for (const [weight, name] of [
        [400, 'Regular'],
        [500, 'Medium'],
      ] as const) {
        cpSync(
          path.join(fonts, `inter-latin-${weight}-normal.woff2`),
          path.join(to, `fonts/inter/Inter-${name}.woff2`),
        );
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), publicFiles()],
  define: { 'process.env': {}, global: 'globalThis' },
  build: { chunkSizeWarningLimit: 20_000, target: 'es2022' },
});
