/**
 * Name of the ValidatingAdmissionPolicy that lets only the leading operator write. It refuses with Forbidden who does not lead, and
 * with Invalid where it cannot be evaluated: the first says nothing of what was to be written, nor does the second.
 */
export const FENCE_POLICY = "baton-operator-fence";
