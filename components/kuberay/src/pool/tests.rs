mod leases;
mod server;
mod upkeep;
