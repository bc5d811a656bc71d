// The floors of the page: pages → components → hooks → api; `logic` imports nothing of ours and may be imported by all.
const floors = ["pages", "components", "hooks", "api", "logic"];

const up = floors.flatMap((floor, index) =>
  floors.slice(0, index).map((above) => ({
    name: `${floor}-knows-no-${above}`,
    severity: "error",
    from: { path: `^src/${floor}/` },
    to: { path: `^src/${above}/` },
  })),
);

module.exports = {
  forbidden: [
    ...up,
    { name: "no-circles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "api-knows-no-react",
      severity: "error",
      from: { path: "^src/(api|logic)/" },
      to: { path: "node_modules/(react|react-dom|@mantine|@tanstack)/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
  },
};
