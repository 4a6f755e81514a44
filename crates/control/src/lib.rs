//! The report model and the forms in which it is shown.
