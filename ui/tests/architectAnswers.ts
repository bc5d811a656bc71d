/** Answers of the API as a small host gives them. */
const GIB = 1024 ** 3;

export const ADVICE = {
  name: "nginx",
  title: "nginx",
  service: "nginx",
  os: "debian-12",
  kind: "ct",
  confidence: "moderate",
  summary: "nginx should be a container: nothing speaks for a VM.",
  rules: [
    {
      id: "ct-default",
      strength: "weak",
      kind: "ct",
      statement: "A Linux service is a container.",
      because: "os: debian-12",
    },
  ],
  against: [],
  unless: ["It would be a VM if it were reachable from the internet."],
  conflicts: [],
  assumed: ["exposure: lan"],
  questions: [{ key: "exposure", question: "Who can reach it?", choices: ["internet", "lan", "none"], assumed: "lan" }],
  warnings: ["image: debian-12 is not here yet"],
  settings: { cores: 1, memory: 256 },
  reasons: { cores: "the usual size" },
  sizing: { cores: 1, memory: GIB / 4, disk: 4 * GIB, instances: 1, because: { cores: "usual" } },
  cost: { kind: "ct", memory: 14_000_000, source: "published", taken: "2026-11-23", note: "", emulated: false },
  cost_other: null,
  command: "bastide launch nginx",
  request: { method: "POST", path: "/nodes/pve/lxc", parameters: { ostemplate: "debian-12" } },
  installs: true,
  notes: ["Sites belong in /etc/nginx."],
};

export const ENTRY = {
  name: "nginx",
  title: "nginx",
  summary: "Web server",
  category: "web",
  aliases: [],
  needs: { exposure: "lan" },
  ports: [{ port: 80, protocol: "tcp" }],
  state: "files",
  size: {
    minimum: { cores: 1, memory: "128M", disk: "1G" },
    usual: { cores: 1, memory: "256M", disk: "4G" },
  },
  upstream: "javascript:alert(1)",
  source: "own estimate",
  notes: [],
  recipe: {
    os: ["debian-12"],
    packages: ["nginx-light"],
    services: ["nginx.service"],
    probe: { type: "http", port: 80 },
  },
};

const resource = { total: 100, used: 1, promised: 20, spared: 10, host: 0, free: 70 };

export const CAPACITY = {
  node: "pve",
  kvm: false,
  guests: { ct: 1, vm: 0 },
  example: { cores: 1, memory: GIB / 2, disk: 4 * GIB, name: "a small guest" },
  cores: resource,
  memory: resource,
  storages: [{ storage: "local", kinds: ["ct"], space: resource, outlook: { sentence: "not known yet" } }],
  fits: [
    {
      kind: "ct",
      count: 7,
      limit: "cores",
      each: {},
      idle: 300,
      emulated: false,
      cost: ADVICE.cost,
      why: "processors end it",
    },
  ],
  notes: [],
};

export const REVIEW = {
  window: "week",
  taken: 1,
  saving: { memory: GIB, cores: 0, disk: 0 },
  guests: [
    {
      vmid: 100,
      name: "web",
      kind: "ct",
      running: true,
      samples: 336,
      needed: 30,
      since: 1,
      unknown: [],
      findings: [
        {
          id: "memory-too-big",
          vmid: 100,
          guest: "web",
          kind: "ct",
          severity: "waste",
          finding: "of 2 GiB of memory it used 210 MiB",
          effect: "1.62 GiB for other guests",
          commands: ["bastide set web memory=384"],
          how: "a container takes it at once",
          since: 1,
          samples: 336,
          confidence: "high",
        },
      ],
    },
  ],
};

export const TAKEN = "2026-11-27T01:02:03Z";

export const COMPARISON = {
  taken: TAKEN,
  quick: true,
  runs: 1,
  image: "debian-12",
  host: { kernel: "6.18" },
  ct: {
    kind: "ct",
    figures: { start: { unit: "s", values: [0.6] } },
    isolation: { kernel: "the host's" },
    missing: {},
  },
  vm: {
    kind: "vm",
    emulated: true,
    figures: { start: { unit: "s", values: [113] } },
    isolation: { kernel: "its own" },
    missing: { net_in: "no iperf3" },
  },
  native: {},
};

export const OUTLOOK = [
  {
    name: "home",
    decisions: [
      {
        plan: "home",
        service: "web",
        line: 3,
        guests: ["web"],
        kind: "ct",
        os: "debian-12",
        title: "nginx",
        confidence: "moderate",
        reason: "A Linux service is a container.",
        cores: 1,
        memory: GIB,
        disk: 4 * GIB,
        settings: {},
        installs: true,
        warnings: [],
      },
    ],
    steps: [
      {
        plan: "home",
        guest: "web",
        service: "web",
        action: "create",
        kind: "ct",
        vmid: null,
        reason: "",
        differences: [],
      },
      {
        plan: "home",
        guest: "old",
        service: "old",
        action: "remove",
        kind: "ct",
        vmid: 104,
        reason: "",
        differences: [],
      },
    ],
  },
];
