type Example = readonly [what: string, line: string];

/** What help shows of each command, by the words that lead to it. */
export const EXAMPLES: Readonly<Record<string, readonly Example[]>> = {
  get: [
    ["All ModelDeployments of the namespace baton", "baton get"],
    ["Follow one of another namespace", "baton get momentum -n trading --watch"],
    [
      "The names of those that are paused",
      "baton get --json | jq -r '.[] | select(.status.phase == \"Paused\").name'",
    ],
  ],
  promote: [
    ["One step on", "baton promote momentum"],
    ["Everything at once", "baton promote momentum --full"],
  ],
  pause: [["Hold the release where it is", "baton pause momentum"]],
  resume: [["Let it go on", "baton resume momentum"]],
  abort: [["Give everything back to the stable revision", "baton abort momentum"]],
  retry: [["Try again the revision that was rolled back", "baton retry momentum"]],
  undo: [
    ["Back to the revision before", "baton undo momentum --reason 'it loses money'"],
    [
      "Back to a certain one (baton history list shows them)",
      "baton undo momentum --to-revision r-1f0c2b7d9a",
    ],
  ],
  restart: [["Make the stable revision's pods anew", "baton restart momentum"]],
  approve: [
    ["Open the only gate, as the user of this session", "baton approve momentum"],
    [
      "Open one of several, with the reason",
      "baton approve momentum --gate risk --reason 'drawdown looked at'",
    ],
  ],
  rollback: [
    [
      "Back to a version, and follow it to the end",
      "baton rollback momentum --to-version 1.4.0 --reason 'drawdown'",
    ],
    [
      "The same in production, and tell the team",
      "baton rollback momentum --environment prod --to-version 1.4.0 --reason 'drawdown' --notify-team",
    ],
  ],
  lint: [
    ["Check the manifests of an environment", "baton lint clusters/dev/manifests/*.yaml"],
    ["In a pipeline", "baton lint --json model.yaml"],
  ],
  "promote-env": [
    ["A branch on which staging has what dev runs", "baton promote-env dev staging"],
    ["And push it", "baton promote-env dev staging --push"],
  ],
  assignments: [
    ["Who decides on what", "baton assignments momentum"],
    ["Follow it", "baton assignments momentum --watch"],
  ],
  move: [
    ["Hand two instruments over", "baton move BTCUSDT,ETHUSDT --to r-1f0c2b7d9a"],
    ["Everything, of one of several deployments", "baton move '*' --to r-1f0c2b7d9a -d momentum"],
  ],
  "history list": [["How the last releases have ended", "baton history list momentum"]],
  "history verify": [["Check that nothing was lost or decided twice", "baton history verify momentum"]],
  halt: [["Withhold all live decisions at once", "baton halt momentum --reason 'exchange prints nonsense'"]],
  release: [["Let it decide again", "baton release momentum --reason 'the exchange has recovered'"]],
  "dead-letters list": [
    ["What a service could not use", "baton dead-letters list features"],
    ["Of one kind only", "baton dead-letters list features --code WRONG_KEY"],
  ],
  "dead-letters replay": [
    ["Count what would be sent again", "baton dead-letters replay features --dry-run"],
    ["Send again what came from one topic", "baton dead-letters replay features --from md.crypto.main"],
  ],
  check: [
    ["Whether the platform works, now", "baton check --within 1"],
    ["Of another namespace, with other market data", "baton check -n trading --topic md.equity.main"],
  ],
};
