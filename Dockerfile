# The bridge and the relay: one program, on the Node that it needs.
FROM node:24-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
# Not `npm ci`: docs/decisions/0011. The optional packages are Node itself, which is here already.
RUN npm install --no-save --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund && npm cache clean --force
COPY src ./src
COPY README.md LICENSE ./
# A volume takes its owner from here; `tollbridge demo --history` writes into it.
RUN install -d -o node -g node /history
USER node
EXPOSE 9464
ENTRYPOINT ["node", "src/cli.ts"]
CMD ["start"]
