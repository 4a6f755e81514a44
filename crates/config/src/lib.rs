//! One configuration model and the dialects read into it.
