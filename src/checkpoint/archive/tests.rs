//! Files of either format, real, golden and damaged.
