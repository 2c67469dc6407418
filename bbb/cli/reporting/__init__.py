"""What commands write to be looked at: pictures, and reports."""
