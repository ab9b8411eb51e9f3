//! Backend for Ray on this machine: uses the head that runs, or starts one.
