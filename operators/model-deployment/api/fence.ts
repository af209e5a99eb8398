/**
 * Name of the ValidatingAdmissionPolicy that lets only the leading operator write. It refuses with Forbidden who does not lead; and
 * with Invalid everybody, while it cannot find the operators' lease.
 */
export const FENCE_POLICY = "baton-operator-fence";
