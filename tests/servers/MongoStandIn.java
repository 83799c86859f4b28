import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.h2.H2Backend;

/** Started by tests/servers/mongo.py with a port and a file. */
public class MongoStandIn {
    public static void main(String[] arguments) {
        MongoServer server = new MongoServer(new H2Backend(arguments[1]));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
    }
}
