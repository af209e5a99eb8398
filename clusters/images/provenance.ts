// How an image came to be, as an in-toto statement with SLSA's predicate (slsa.dev/spec/v1.0/provenance).

export interface Origin {
  readonly image: string;
  /** Docker's id of the image: the SHA-256 of its configuration, which names its layers. */
  readonly id: string;
  readonly commit: string;
  /** Whether the working tree had changes that are in no commit. */
  readonly dirty: boolean;
  /** What else went into it, with the SHA-256 of each. */
  readonly from: Readonly<Record<string, string>>;
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

export function provenance(origin: Origin): object {
  const bare = (digest: string) => digest.replace(/^sha256:/, "");
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: origin.image, digest: { sha256: bare(origin.id) } }],
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "https://baton.dev/images/v1",
        externalParameters: { image: origin.image },
        internalParameters: { uncommittedChanges: origin.dirty },
        resolvedDependencies: [
          { uri: "git+https://baton.dev/source", digest: { gitCommit: origin.commit } },
          ...Object.entries(origin.from).map(([uri, digest]) => ({ uri, digest: { sha256: bare(digest) } })),
        ],
      },
      runDetails: {
        builder: { id: "https://baton.dev/images/local" },
        metadata: {
          startedOn: origin.startedAt.toISOString(),
          finishedOn: origin.finishedAt.toISOString(),
        },
      },
    },
  };
}
