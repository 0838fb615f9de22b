CREATE TABLE `role_days` (
	`role` text NOT NULL,
	`day` integer NOT NULL,
	`exchanges` integer NOT NULL,
	`failures` integer NOT NULL,
	`answers` integer NOT NULL,
	PRIMARY KEY(`role`, `day`)
);
