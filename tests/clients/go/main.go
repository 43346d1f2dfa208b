// Listens to a view by ADBC in Go, adds up what it is told, and breaks off: client HOST:PORT STATEMENT MARKS.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	"github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func main() {
	if err := listen(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func listen(address, query, marks string) error {
	wanted, err := strconv.Atoi(marks)
	if err != nil {
		return err
	}
	begun := time.Now()
	driver := flightsql.NewDriver(memory.DefaultAllocator)
	database, err := driver.NewDatabase(map[string]string{adbc.OptionKeyURI: "grpc://" + address})
	if err != nil {
		return err
	}
	defer database.Close()
	ctx, cancel := context.WithCancel(context.Background())
	connection, err := database.Open(ctx)
	if err != nil {
		return err
	}
	defer connection.Close()
	statement, err := connection.NewStatement()
	if err != nil {
		return err
	}
	if err := statement.SetSqlQuery(query); err != nil {
		return err
	}
	rows, _, err := statement.ExecuteQuery(ctx)
	if err != nil {
		return err
	}
	sum, found := map[string]int64{}, 0
	var first time.Time
	for found < wanted && rows.Next() {
		batch := rows.Record()
		changes := batch.Column(0).(*array.Int32)
		for row := 0; row < int(batch.NumRows()); row++ {
			if changes.Value(row) == 0 {
				if found++; first.IsZero() {
					first = time.Now()
				}
				continue
			}
			var values strings.Builder
			for _, column := range batch.Columns()[4:] {
				values.WriteString(column.ValueStr(row) + "|")
			}
			sum[values.String()] += int64(changes.Value(row))
		}
	}
	var there int64
	for row, count := range sum {
		if count < 0 {
			return fmt.Errorf("a row was taken back that was not told: %s", row)
		}
		there += count
	}
	fmt.Printf("go: %d marks, %d rows; the first mark after %d ms, the last %d ms later\n", found, there,
		first.Sub(begun).Milliseconds(), time.Since(first).Milliseconds())
	if found < wanted {
		return fmt.Errorf("it ended: %v", rows.Err())
	}
	cancel()
	return nil
}
