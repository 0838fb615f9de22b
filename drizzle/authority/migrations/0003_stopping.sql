CREATE TABLE `ballast` (
	`id` integer PRIMARY KEY NOT NULL,
	`filler` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `locks` (
	`target` text PRIMARY KEY NOT NULL,
	`reason` text NOT NULL,
	`by_id` text NOT NULL,
	`at` integer NOT NULL,
	`until` integer
);
--> statement-breakpoint
CREATE TABLE `tickets` (
	`digest` text PRIMARY KEY NOT NULL,
	`target` text NOT NULL,
	`origin` text,
	`connection` text,
	`token` text NOT NULL,
	`expires_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `tickets_expires` ON `tickets` (`expires_at`);--> statement-breakpoint
ALTER TABLE `connections` ADD `kind` text DEFAULT 'socket' NOT NULL;--> statement-breakpoint
ALTER TABLE `connections` ADD `warn_at` integer;--> statement-breakpoint
ALTER TABLE `stops` ADD `objects` text;--> statement-breakpoint
ALTER TABLE `stops` ADD `decision` integer;