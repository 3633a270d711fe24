"""What people read: messages, tables, charts and pages made of Records and laws."""
