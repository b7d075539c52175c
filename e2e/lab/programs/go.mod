module virga.dev/lab/programs

go 1.26
