// Package onlineretail imports invoices from files in the format of the Online Retail data set, through the command path.
//
// A file is CSV, gzipped or not, with a header and the columns of [Columns]. The whole of it is read and checked first: a
// file that is broken anywhere is refused with line and column, and nothing of it is imported. Then each row is put into
// one class, by the first of these rules that fits:
//
//  1. It is rejected if it has no stock code, or a price below zero or with parts of a minor unit. Prices are judged by
//     their value: 2.100 is 2.10. Rows are also rejected if a number, code or country in them could name nothing in the
//     shop, or if their quantity is none.
//  2. On an invoice whose number begins with C it is a return. It is matched to what the same customer bought of that code
//     before, in this file or in an earlier one, and has not returned yet: the newest purchase first, and as many as it
//     takes. A return that is not covered in full, or has no customer, is rejected.
//  3. A quantity below zero, or a price of zero with no customer, is a correction of the stock.
//  4. Whatever is left is a sale: a line of the order of the invoice's number.
//
// An invoice becomes at most one order, placed when its first sale was made; what it returns is one command, its
// corrections one command each. Before the first of them there is a product for each SKU, with as many units in stock as
// all sales and losses that are still to come will take.
//
// # Doing things once
//
// Nothing is kept about files. What is done is read from the log: an order that exists is done, and so are the lines of
// an invoice that its stream names. An import that was killed is simply started again, and files may overlap. Rejected
// rows leave no mark, so that a later file, which knows older purchases, can import them. A sale that is missing from the
// order of its invoice, because an earlier file held another version of the invoice, is rejected: an order never changes.
//
// Returns are matched before anything is executed, on what the log and the rows before them tell. Taking the newest
// purchase first makes the result the same whether the earlier rows were done in this run or in another: removing from a
// pile what later returns took leaves the earlier returns the same units on top.
//
// # Memory
//
// A row takes 44 bytes and refers to texts that are kept once, so that a file of half a million rows takes some 40 MB,
// however long its text is. Of the log only those purchases are kept that a return of the file may be about.
package onlineretail
