import journal from './meta/_journal.json';
import m0000 from './0000_init.sql';
import m0001 from './0001_leases.sql';
import m0002 from './0002_reservations.sql';
import m0003 from './0003_stopping.sql';
import m0004 from './0004_credentials.sql';
import m0005 from './0005_exchange_limits.sql';
import m0006 from './0006_socket_charges.sql';

  export default {
    journal,
    migrations: {
      m0000,
m0001,
m0002,
m0003,
m0004,
m0005,
m0006
    }
  }
  