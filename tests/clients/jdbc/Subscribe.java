import java.sql.DriverManager;
import java.util.HashMap;
import java.util.Map;

/** Listens to a view over JDBC, adds up what it is told, and breaks off: Subscribe HOST:PORT STATEMENT MARKS. */
public class Subscribe {
    public static void main(String[] arguments) throws Exception {
        var url = "jdbc:arrow-flight-sql://" + arguments[0] + "/?useEncryption=false";
        int wanted = Integer.parseInt(arguments[2]);
        long begun = System.nanoTime();
        try (var connection = DriverManager.getConnection(url); var statement = connection.createStatement()) {
            var rows = statement.executeQuery(arguments[1]);
            int columns = rows.getMetaData().getColumnCount();
            Map<String, Long> sum = new HashMap<>();
            int marks = 0;
            long first = 0;
            while (marks < wanted && rows.next()) {
                int change = rows.getInt("change");
                if (change == 0) {
                    marks += 1;
                    first = first == 0 ? System.nanoTime() : first;
                    continue;
                }
                var row = new StringBuilder();
                for (int column = 5; column <= columns; column++) {
                    row.append(rows.getString(column)).append('|');
                }
                sum.merge(row.toString(), (long) change, Long::sum);
            }
            if (sum.values().stream().anyMatch(count -> count < 0)) {
                throw new IllegalStateException("a row was taken back that was not told");
            }
            long there = sum.values().stream().mapToLong(Long::longValue).sum();
            System.out.printf("jdbc: %d marks, %d rows; the first mark after %d ms, the last %d ms later%n", marks, there,
                (first - begun) / 1_000_000, (System.nanoTime() - first) / 1_000_000);
            statement.cancel();
        }
    }
}
