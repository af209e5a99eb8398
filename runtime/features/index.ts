export { FeatureError, type FeatureErrorCode } from "./errors.ts";
export {
  type FeatureRead,
  FeatureStore,
  type FeatureStoreOptions,
  FeatureViewStore,
  type FeatureWrite,
  type WriteResult,
} from "./store.ts";
export { type FeatureView, schemaHash } from "./vector.ts";
