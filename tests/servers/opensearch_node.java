// One node until it is killed. Run by tests/servers/opensearch.py from this source; the runner's own program takes no port above 9299.
import org.codelibs.opensearch.runner.OpenSearchRunner;

class Node {
  public static void main(String[] arguments) throws InterruptedException {
    OpenSearchRunner runner = new OpenSearchRunner();
    runner.setMaxHttpPort(-1);
    runner.build(arguments);
    Thread.currentThread().join();
  }
}
