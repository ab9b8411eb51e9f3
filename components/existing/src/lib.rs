//! Backend for a Ray cluster that is already there, reached by address.
